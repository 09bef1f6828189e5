"""Without network: what torchvision would fetch is its own network with random weights."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.ops.pixels import normalise
from facekit.template import InputSettings, Template, find_template, load_template
from facekit.weights import imagenet
from facekit.weights.imagenet import MEAN_RGB, STD_RGB, load_imagenet_backbone

SSD = "face-detection-0200"
Cache = Callable[[Any], Path]


def template_of(name: str, **model: Any) -> Template:
    template = load_template(find_template(name))
    return dataclasses.replace(template, model=dataclasses.replace(template.model, **model))


def pixels(side: int = 96, count: int = 2) -> Tensor:
    """(count, 3, side, side) BGR uint8, smooth enough that deep layers differ from picture to picture."""
    coarse = torch.rand(count, 3, side // 8, side // 8, generator=torch.Generator().manual_seed(2)) * 255
    return nn.functional.interpolate(coarse, size=(side, side), mode="bilinear").byte()


def their_input(images_bgr: Tensor) -> Tensor:
    """torchvision's own preprocessing, written out."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN_RGB, STD_RGB))
    return (images_bgr.flip(1) / 255 - mean) / std


def season(network: nn.Module) -> nn.Module:
    """Batch norms as after training: statistics near those of pictures, or deep layers would see none of them; gains
    and shifts that differ by channel."""
    generator = torch.Generator().manual_seed(1)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # the last batch's
        norm.weight.data.copy_(0.5 + torch.rand(norm.num_features, generator=generator))
        norm.bias.data.copy_(0.3 * torch.randn(norm.num_features, generator=generator))
    with torch.no_grad():
        network.train()(their_input(pixels(count=4)))
    for norm in norms:
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean += 0.2 * norm.running_var.sqrt() * torch.randn(norm.num_features, generator=generator)
        norm.running_var *= 0.7 + 0.6 * torch.rand(norm.num_features, generator=generator)
    return network.eval()


def fresh(builder: Callable[[], nn.Module]) -> Any:
    torch.manual_seed(0)
    return season(builder())


theirs = functools.cache(fresh)  # for tests that leave it alone


def feature_taps(*taps: int) -> Callable[[Any, Tensor], list[Tensor]]:
    def run(network: Any, images: Tensor) -> list[Tensor]:
        outputs = []
        for layer in network.features:
            images = layer(images)
            outputs.append(images)
        return [outputs[tap] for tap in taps]

    return run


def stage_taps(*taps: str) -> Callable[[Any, Tensor], list[Tensor]]:
    def run(network: Any, images: Tensor) -> list[Tensor]:
        outputs = {}
        for name, layer in network.named_children():
            if name in ("avgpool", "fc"):
                break
            outputs[name] = images = layer(images)
        return [outputs[tap] for tap in taps]

    return run


def shufflenet_with_our_pool() -> nn.Module:
    """Our stem pools as the published weights of 0207 were trained, which torchvision's does not."""
    network = models.shufflenet_v2_x1_0()
    network.maxpool = build_model(template_of("face-detection-0207")).get_submodule("backbone.maxpool")
    return network


CASES = {
    "mobilenetv2": (SSD, models.mobilenet_v2, feature_taps(13, 17)),
    "mobilenetv2 of fcos": ("face-detection-0205", models.mobilenet_v2, feature_taps(6, 13, 17)),
    "resnet152": ("face-detection-0206", models.resnet152, stage_taps("layer1", "layer2", "layer3", "layer4")),
    "shufflenetv2": ("face-detection-0207", shufflenet_with_our_pool, stage_taps("stage3", "stage4")),
    "mobilenetv3": ("retinaface-mobilenetv3-small", models.mobilenet_v3_small, feature_taps(8, 12)),
    "efficientnet": ("retinaface-efficientnet-b0", models.efficientnet_b0, feature_taps(5, 8)),
}


def first_convolution(network: Any) -> nn.Conv2d:
    return next(module for module in network.modules() if isinstance(module, nn.Conv2d))


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module], None]:
    """Lets torchvision have published that network's weights."""

    def give(network: nn.Module) -> None:
        monkeypatch.setattr(imagenet, "_bring", lambda weights, name: Path("fetched.pth"))
        monkeypatch.setattr(imagenet, "_read", lambda path: network.state_dict())

    return give


def filled(template: Template) -> Any:
    torch.manual_seed(5)
    network = build_model(template)
    assert load_imagenet_backbone(network, template)
    return network.eval()


def test_published_input_convention() -> None:
    for name in ("mobilenet_v2", "resnet152", "shufflenet_v2_x1_0", "mobilenet_v3_small", "efficientnet_b0"):
        preset = models.get_model_weights(name)["IMAGENET1K_V1"].transforms()
        assert (tuple(preset.mean), tuple(preset.std)) == (MEAN_RGB, STD_RGB)


class TestFunction:
    @pytest.mark.parametrize("case", CASES)
    def test_taps_are_torchvisions(self, case: str, given: Callable[[nn.Module], None]) -> None:
        name, builder, taps = CASES[case]
        template, other = template_of(name), fresh(builder)
        given(other)
        backbone = filled(template).backbone
        images = pixels()
        # Padding with zeros is padding with another colour in each convention: without it all places must agree,
        # those too that only see the border through a squeeze-and-excitation.
        for network in (backbone, other):
            first_convolution(network).padding = (0, 0)
        with torch.no_grad():
            ours, expected = backbone(normalise(images, template.input)), taps(other, their_input(images))
        assert len(ours) == len(expected)
        for level, (tap, wanted) in enumerate(zip(ours, expected, strict=True)):
            assert tap.shape == wanted.shape
            spread = (wanted[0] - wanted[1]).abs().max()  # between two pictures: what is to be told apart
            assert spread > 1e-3 * wanted.abs().max()
            assert (tap - wanted).abs().max() < 2e-3 * spread, level

    def test_only_the_border_differs(self, given: Callable[[nn.Module], None]) -> None:
        template, other = template_of("retinaface-mobilenetv3-small"), theirs(models.mobilenet_v3_small)
        given(other)
        body = filled(template).backbone
        images = pixels()
        with torch.no_grad():
            ours = body.features[0](normalise(images, template.input))
            wanted = other.features[0](their_input(images))
        torch.testing.assert_close(ours[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-4)
        assert (ours - wanted).abs().max() > 0.01

    @pytest.mark.parametrize("colour_order", ["rgb", "bgr"])
    @pytest.mark.parametrize(
        ("mean", "std"),
        [
            ((0, 0, 0), (1, 1, 1)),
            ((104, 117, 123), (1, 1, 1)),
            ((0, 0, 0), (255, 255, 255)),
            ((10, 200, 90), (30, 60, 300)),
            ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        ],
    )
    def test_any_input(self, colour_order: Any, mean: Any, std: Any, given: Callable[[nn.Module], None]) -> None:
        template = template_of(SSD)
        template = dataclasses.replace(template, input=InputSettings((256, 256), colour_order, mean, std))
        other = theirs(models.mobilenet_v2)
        given(other)
        backbone = filled(template).backbone
        images = pixels()
        with torch.no_grad():
            ours = backbone.features[0](normalise(images, template.input))[..., 1:-1, 1:-1]
            wanted = other.features[0](their_input(images))[..., 1:-1, 1:-1]
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)
        # Training, too, starts from weights of the size that torchvision trained, or larger.
        size, their_size = (first_convolution(network).weight.std() for network in (backbone, other))
        assert size > 0.5 * their_size

    def test_torchvisions_own_input_changes_nothing(self, given: Callable[[nn.Module], None]) -> None:
        template, other = template_of("face-detection-0207"), theirs(models.shufflenet_v2_x1_0)
        own = InputSettings(
            (64, 64),
            "rgb",
            tuple(255 * value for value in MEAN_RGB),
            tuple(255 * value for value in STD_RGB),  # type: ignore[arg-type]
        )
        given(other)
        ours = filled(dataclasses.replace(template, input=own)).backbone.state_dict()
        for name, tensor in other.state_dict().items():
            if name in ours:
                torch.testing.assert_close(ours[name], tensor, rtol=1e-6, atol=1e-6)

    def test_the_rest_stays_random(self, given: Callable[[nn.Module], None]) -> None:
        given(theirs(models.mobilenet_v2))
        template = template_of(SSD)
        torch.manual_seed(5)
        random = build_model(template).state_dict()
        for name, tensor in filled(template).state_dict().items():
            if not name.startswith("backbone."):
                assert torch.equal(tensor, random[name]), name


class TestFit:
    def test_template_without_weights(self) -> None:
        template = template_of(SSD, imagenet_weights=None)
        network = build_model(template)
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        assert not load_imagenet_backbone(network, template)
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())

    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("MobileNet_V2_Weights.IMAGENET1K_V9", "MobileNet_V2_Weights.IMAGENET1K_V"),
            ("MobilenetV2_Weights.IMAGENET1K_V1", "MobileNet_V2_Weights.IMAGENET1K_V1"),
            ("mobilenet_v2", "MobileNet_V2_Weights"),
            ("FCOS_ResNet50_FPN_Weights.COCO_V1", "ResNet50_Weights"),  # torchvision's, but of no classifier
            ("", "Weights"),
        ],
    )
    def test_unknown_name(self, name: str, near: str) -> None:
        template = template_of(SSD, imagenet_weights=name)
        with pytest.raises(FacekitError) as caught:
            load_imagenet_backbone(build_model(template), template)
        text = str(caught.value)
        assert "face-detection-0200/template.yaml: model.imagenet_weights: " + name in text
        assert f"did you mean {near}" in text or near in text.partition("did you mean ")[2]

    def test_weights_of_another_network(self, given: Callable[[nn.Module], None]) -> None:
        given(theirs(models.mobilenet_v3_small))
        template = template_of(SSD, imagenet_weights="MobileNet_V3_Small_Weights.IMAGENET1K_V1")
        network = build_model(template)
        with pytest.raises(FacekitError) as caught:
            load_imagenet_backbone(network, template)
        text = str(caught.value)
        assert "template.yaml: model.imagenet_weights: MobileNet_V3_Small_Weights.IMAGENET1K_V1: the weights" in text
        assert "missing" in text and "features.17.conv.3.weight" in text
        assert "Name weights of the template's own backbone" in text

    def test_tensor_of_another_shape(self, given: Callable[[nn.Module], None]) -> None:
        given(theirs(lambda: models.mobilenet_v2(width_mult=0.5)))
        template = template_of(SSD)
        with pytest.raises(FacekitError, match=r"wrong shape .*features\.0\.0\.weight \(expected \(32, 3, 3, 3\)"):
            load_imagenet_backbone(build_model(template), template)

    @pytest.mark.parametrize("name", ["yunet-n", "ultralight-slim-320"])
    def test_architecture_that_is_not_torchvisions(self, name: str, given: Callable[[nn.Module], None]) -> None:
        given(theirs(models.mobilenet_v2))
        template = template_of(name, imagenet_weights="MobileNet_V2_Weights.IMAGENET1K_V1")
        with pytest.raises(FacekitError, match=r"(?s)model\.imagenet_weights.*null"):
            load_imagenet_backbone(build_model(template), template)

    def test_file_without_counters(self, given: Callable[[nn.Module], None], monkeypatch: pytest.MonkeyPatch) -> None:
        """PyTorch before 0.4.1 counted no batches."""
        state = theirs(models.mobilenet_v2).state_dict()
        state = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
        given(nn.Identity())
        monkeypatch.setattr(imagenet, "_read", lambda path: state)
        backbone = filled(template_of(SSD)).backbone
        assert torch.equal(backbone.state_dict()["features.17.conv.3.weight"], state["features.17.conv.3.weight"])


class TestFile:
    @pytest.fixture(autouse=True)
    def offline(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError("Network is unreachable")

        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        monkeypatch.setattr("urllib.request.urlopen", refuse)

    @pytest.fixture
    def cached(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
        """Puts content where torch.hub keeps what it fetched, under torchvision's kind of name; gives the path."""

        def put(content: Any) -> Path:
            buffer = io.BytesIO()
            torch.save(content, buffer)
            digest = hashlib.sha256(buffer.getvalue()).hexdigest()
            name = f"mobilenet_v2-{digest[:8]}.pth"
            monkeypatch.setattr(models.WeightsEnum, "url", property(lambda self: f"https://example.com/models/{name}"))
            path = tmp_path / "torch" / "hub" / "checkpoints" / name
            path.parent.mkdir(parents=True)
            path.write_bytes(buffer.getvalue())
            return path

        return put

    def test_cached(self, cached: Cache) -> None:
        other = theirs(models.mobilenet_v2)
        cached(other.state_dict())
        backbone = filled(template_of(SSD)).backbone
        assert torch.equal(backbone.features[17].conv[2].weight.detach(), other.features[17].conv[2].weight.detach())

    def test_offline(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        template = template_of(SSD)
        network = build_model(template)
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        with caplog.at_level(logging.WARNING, "facekit"):
            assert not load_imagenet_backbone(network, template)
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
        (record,) = caplog.records
        text = record.getMessage()
        for part in (
            "MobileNet_V2_Weights.IMAGENET1K_V1 can't be had (https://download.pytorch.org/",
            "Network is unreachable)",
            "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
            str(tmp_path / "torch" / "hub" / "checkpoints" / "mobilenet_v2-b0353104.pth"),
            "`from_scratch`",
        ):
            assert part in text
        assert not list(tmp_path.rglob("*.p*t*"))  # no piece of a file

    def test_page_that_asks_to_log_in(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def page(urls: Any, identity: Any, path: Path, most_bytes: int) -> None:
            assert 13 << 20 < most_bytes < 16 << 20  # torchvision says 13.6 MiB
            path.parent.mkdir(parents=True)
            path.write_bytes(b"<html>")

        monkeypatch.setattr(imagenet, "download", page)
        template = template_of(SSD)
        with caplog.at_level(logging.WARNING, "facekit"):
            assert not load_imagenet_backbone(build_model(template), template)
        assert "its sha256 starts with " in caplog.text
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    def test_cache_that_cannot_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "torch").write_text("a file")
        template = template_of(SSD)
        with caplog.at_level(logging.WARNING, "facekit"):
            assert not load_imagenet_backbone(build_model(template), template)
        assert "can't be had" in caplog.text

    @pytest.mark.parametrize(
        "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data + b"x"]
    )
    def test_damaged(self, cached: Cache, damage: Callable[[bytes], bytes]) -> None:
        path = cached({"a": torch.zeros(100)})
        path.write_bytes(damage(path.read_bytes()))
        template = template_of(SSD)
        with pytest.raises(FacekitError) as caught:
            load_imagenet_backbone(build_model(template), template)
        text = str(caught.value)
        assert f"{path}: cut off or damaged: its sha256 starts with " in text
        assert "Delete it" in text

    @pytest.mark.parametrize("content", [[1, 2], {"state_dict": {"a": 1}}, nn.Conv2d(1, 1, 1)])
    def test_no_weights(self, cached: Cache, content: Any) -> None:
        path = cached(content)
        template = template_of(SSD)
        with pytest.raises(FacekitError) as caught:
            load_imagenet_backbone(build_model(template), template)
        assert str(path) in str(caught.value)
