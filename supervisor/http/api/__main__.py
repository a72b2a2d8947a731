"""`python -m supervisor.http.api`: the OpenAPI description, as docs/openapi.json has it."""

from __future__ import annotations

import sys

from supervisor.http.api import description
from supervisor.http.openapi import render

if __name__ == "__main__":
    sys.stdout.write(render(description()))
