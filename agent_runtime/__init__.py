"""What an agent is: one contract, and one package for each agent that moltinit can keep alive."""
