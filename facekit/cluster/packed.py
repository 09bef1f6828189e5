"""A detector that travels: its files, as workers on other machines see no disk of the driver's."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from facekit.base.files import SIBLINGS
from facekit.base.reading import read_bytes
from facekit.detector import BUNDLED_WEIGHTS, Detector, Passes
from facekit.errors import FacekitError
from facekit.template import Template, find_template, load_template

MAX_BYTES = 2 << 30  # of weights


@dataclass(frozen=True)
class PackedDetector:
    """What Detector.open() takes, with what is in the files in the place of their paths."""

    files: tuple[tuple[str, bytes], ...]  # names and content; the first is the weights'
    template: Template | None
    passes: Passes
    threads: int | None
    backend: str | None
    layout: str | None = None
    device: str | None = None

    @classmethod
    def of(
        cls,
        weights: Path | None,
        template: str | Path | Template | None = None,
        passes: Passes | None = None,
        threads: int | None = None,
        backend: str | None = None,
        layout: str | None = None,
        device: str | None = None,
    ) -> PackedDetector:
        """As Detector.open() takes them; without weights, those that come with facekit. Raises as read_bytes()."""
        if weights is None:
            weights, template = BUNDLED_WEIGHTS, BUNDLED_WEIGHTS.parent
        beside = [weights.with_suffix(suffix) for suffix in SIBLINGS.get(weights.suffix.lower(), ())]
        paths = [weights, *(path for path in beside if path.is_file())]
        files = tuple((path.name, read_bytes(path, MAX_BYTES, "Check the weights.")) for path in paths)
        if template is not None and not isinstance(template, Template):
            template = load_template(find_template(str(template)))
        return cls(files, template, passes or Passes(), threads, backend, layout, device)

    def open(self) -> Detector:
        """Raises FacekitError where this machine can't run it."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in self.files:
                (Path(folder) / name).write_bytes(content)
            weights = Path(folder) / self.files[0][0]
            try:
                return Detector.open(
                    weights, self.template, self.device, self.passes, self.threads, self.backend, self.layout
                )
            except FacekitError as error:
                raise FacekitError(str(error).replace(f"{folder}/", "")) from error

    def sha256(self) -> str:
        """Of all its files."""
        digest = hashlib.sha256()
        for name, content in self.files:
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest()
