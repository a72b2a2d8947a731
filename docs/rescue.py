"""Bring a snapshot back with nothing but Python and zstd: `python rescue.py BUCKET_DIR OUT [SNAPSHOT]`.

BUCKET_DIR is a copy of the bucket (and prefix) on disk. SNAPSHOT is a number out of HEAD, or the key of a manifest
(as those under rescue/); without it, the newest promoted snapshot. It shares no code with moltinit: format.md is
where both come from.
"""

import hashlib
import json
import os
import re
import subprocess
import sys

try:
    from compression.zstd import decompress  # Python 3.14 and later
except ImportError:
    try:
        from backports.zstd import decompress  # pip install backports.zstd
    except ImportError:

        def decompress(data):
            return subprocess.run(["zstd", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout


def read(bucket, key):
    with open(os.path.join(bucket, *key.split("/")), "rb") as file:
        return file.read()


def name(text):
    parts = re.split(r"\\(\\|x[0-9a-f]{2})", text)
    return b"".join(
        part.encode() if at % 2 == 0 else b"\\" if part == "\\" else bytes([int(part[1:], 16)])
        for at, part in enumerate(parts)
    )


def rescue(bucket, out, wanted=None):
    if wanted and "/" in wanted:
        manifest = wanted
    else:
        records = json.loads(read(bucket, "HEAD"))["snapshots"]
        if wanted:
            manifest = next(r["manifest"] for r in records if r["sequence"] == int(wanted))
        else:
            manifest = [r for r in records if r["promoted"] and not r["damaged"]][-1]["manifest"]
    top = json.loads(decompress(read(bucket, manifest)))
    layers = [json.loads(decompress(read(bucket, top["base"]))), top] if top.get("base") else [top]
    packs, frames, blobs = ([row for layer in layers for row in layer[t]] for t in ("packs", "frames", "blobs"))
    entries = {}
    for layer in layers:
        for path in layer["removed"]:
            entries.pop(name(path), None)
        entries.update({name(row[0]): row for row in layer["entries"]})

    cached = {}

    def content(number):
        digest, frame, offset, length = blobs[number]
        if frame not in cached:
            pack, start, stored, _ = frames[frame]
            key = packs[pack][0]
            cached.clear()
            cached[frame] = decompress(read(bucket, f"packs/{key[:2]}/{key}")[start : start + stored])
        data = cached[frame][offset : offset + length]
        if hashlib.sha256(data).digest()[:16] != bytes.fromhex(digest):
            raise SystemExit(f"content {digest} is damaged")
        return data

    os.makedirs(out, exist_ok=True)
    root, late = os.fsencode(out), []
    for path, (_, kind, mode, mtime, pieces, link, _flags) in sorted(entries.items()):
        if b".." in path.split(b"/") or path.startswith(b"/"):
            raise SystemExit(f"{path!r} would lie outside of {out}")
        target = os.path.join(root, path)
        if kind == "d":
            os.mkdir(target, 0o700)
        elif kind == "f":
            with open(target, "xb") as file:
                for number in pieces:
                    file.write(content(number))
        late.append((target, kind, mode, mtime, name(link)))
    for target, kind, _, mtime, link in sorted(late, reverse=True):
        if kind == "h":
            os.link(os.path.join(root, link), target)
        elif kind == "l":
            os.symlink(link, target)
            os.utime(target, ns=(mtime, mtime), follow_symlinks=False)
    for target, kind, mode, mtime, _ in sorted(late, reverse=True):
        if kind in "fd":
            os.chmod(target, mode & 0o777)
            os.utime(target, ns=(mtime, mtime))
    return len(entries)


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        raise SystemExit(__doc__)
    print(rescue(*sys.argv[1:]), "names restored")
