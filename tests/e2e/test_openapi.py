"""The OpenAPI description against a running daemon: schemathesis asks what it promises, and what it does not."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from supervisor.http.api import description
from tests.support.daemon import life

TOKEN = "an-operator-token-for-the-description"
EXAMPLES = 3
LEFT_OUT = "/logs/stream|/agent/|/gateway/restart"
SECONDS = 40


async def test_the_api_does_what_its_description_says_and_refuses_the_rest(tmp_path: Path) -> None:
    bucket = {"MOLTINIT_BUCKET_URL": f"file://{tmp_path / 'bucket'}"}
    async with life(tmp_path / "a", bucket=bucket, MOLTINIT_AGENT="echo", MOLTINIT_OPERATOR_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        settings = tmp_path / "schemathesis.toml"
        # Without TRACE: it is 501 whatever the path, before anybody looks at which one it is.
        settings.write_text('[phases.coverage]\nunexpected-methods = ["PUT", "POST", "PATCH", "DELETE", "QUERY"]\n')
        # Statuses, media types and bodies are those that are described, data of the wrong shape is refused, nothing is
        # a server error, and nothing is answered without a key. Left out are the live log, which has no end, and what
        # takes a second each time: starts and stops of the agent have tests of their own.
        tester = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("st")),
            f"--config-file={settings}",
            "run",
            f"{daemon.url}/api/admin/openapi.json",
            f"--header=Authorization: Bearer {TOKEN}",
            "--phases=coverage,fuzzing",
            "--mode=all",
            f"--max-examples={EXAMPLES}",
            "--generation-deterministic",
            f"--exclude-path-regex={LEFT_OUT}",
            "--continue-on-failure",
            "--request-timeout=30",
            "--warnings=off",
            "--no-color",
            cwd=tmp_path,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(3 * SECONDS):
                output, _ = await tester.communicate()
        finally:
            if tester.returncode is None:
                tester.kill()
                await tester.wait()
        told = "\n".join(line[:300] for line in output.decode("utf-8", "replace").splitlines())
        assert tester.returncode == 0, f"{told[-6000:]}\n{daemon.tail(10)}"
        wanted = [
            (method, path)
            for path, methods in description()["paths"].items()
            for method in methods
            if not re.search(LEFT_OUT, path)
        ]
        # It does not ask for the description itself again.
        assert f"Tested: {len(wanted) - 1}\n" in told, told[:1500]
        assert daemon.events("request failed") == []
