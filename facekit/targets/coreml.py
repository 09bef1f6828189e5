"""Core ML: an .mlpackage of one size for iOS and macOS. It is written here and runs on Apple's systems alone, so
nothing is compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facekit.errors import FacekitError
from facekit.targets.reading.about import KEY

if TYPE_CHECKING:
    from facekit.targets.writing.draft import Draft


def write(draft: Draft, path: Path) -> None:
    """Converts the graph in full precision; the input `image` is (1, 3, height, width) BGR pixels 0..255. Raises
    FacekitError where that fails."""
    import torch

    from facekit.targets.writing.converters import quiet_converter
    from facekit.targets.writing.graph import quiet_tracing

    with quiet_converter(), quiet_tracing(), torch.no_grad():
        import coremltools

        program = torch.export.export(draft.graph, (draft.graph.example(),)).run_decompositions({})
        try:
            model = coremltools.convert(
                program,
                outputs=[coremltools.TensorType(name=name) for name in draft.graph.output_names],
                minimum_deployment_target=coremltools.target.iOS16,
                compute_precision=coremltools.precision.FLOAT32,
                skip_model_load=True,
            )
            model.short_description = f"{draft.template.name}: faces, by facekit {draft.about.version}"
            model.license = draft.about.licence
            model.user_defined_metadata[KEY] = draft.about.to_json()
            model.save(str(path))
        except Exception as error:  # its passes raise whatever comes
            raise FacekitError(f"Core ML: can't convert the graph: {' '.join(str(error).split())[:300]}") from error
