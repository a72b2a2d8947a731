"""The admin page at `/_admin/`: what the daemon says (`Operations`), as an operator reads it on a phone at night.

`page` answers requests, `sources` asks the daemon, `view` and `verdict` decide what is shown, `render` and the
templates how.
"""
