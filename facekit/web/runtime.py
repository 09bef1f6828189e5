"""ONNX Runtime for browsers: two files of an npm package, fetched once, known by their digests."""

from __future__ import annotations

import tarfile
from pathlib import Path

from facekit.base.download import DownloadError, Identity, download
from facekit.base.files import replacing
from facekit.errors import FacekitError
from facekit.weights.snapshots import cache_dir

VERSION = "1.30.0"
URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
PACKAGE = Identity(33_106_585, "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71")
FILES = {  # with WASM SIMD, and threads where a page may have them; the builds with WebGPU are twice as large
    "ort.wasm.bundle.min.mjs": Identity(73_054, "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90"),
    "ort-wasm-simd-threaded.wasm": Identity(
        14_239_897, "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
}
INSIDE = "package/dist/"  # where they lie in the package


def runtime_dir() -> Path:
    """Where the files are kept."""
    return cache_dir() / f"onnxruntime-web-{VERSION}"


def cached_runtime() -> dict[str, Path] | None:
    """Name -> file, where all are there as they were published."""
    paths = {name: runtime_dir() / name for name in FILES}
    is_whole = all(path.is_file() and FILES[name].mismatch(path) is None for name, path in paths.items())
    return paths if is_whole else None


def fetch_runtime() -> dict[str, Path]:
    """Name -> file, from the cache, or fetched into it (33 MB).

    Raises FacekitError that says how to bring them where the network doesn't.
    """
    found = cached_runtime()
    if found is not None:
        return found
    package = runtime_dir() / Path(URL).name
    try:
        download([URL], PACKAGE, package)
    except DownloadError as error:
        raise FacekitError(
            f"onnxruntime-web {VERSION} can't be fetched:\n{error}\nWhere there is a network run "
            f"`npm pack onnxruntime-web@{VERSION}`, and put dist/{' and dist/'.join(FILES)} of it into {runtime_dir()}."
        ) from error
    _unpack(package)
    package.unlink()
    found = cached_runtime()
    assert found is not None, "the package was known by its digest"
    return found


def _unpack(package: Path) -> None:
    """The files that are wanted, by their names alone: nothing else of the archive is looked at."""
    with tarfile.open(package) as archive:
        for name, identity in FILES.items():
            member = archive.extractfile(INSIDE + name)
            assert member is not None and identity.size is not None
            with replacing(runtime_dir() / name) as beside:
                beside.write_bytes(member.read(identity.size))
