"""What an evaluation tells beside its headline figures: by height, event and attribute, at a rate of false positives,
landmarks, calibration, time, and the worst mistakes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from facekit.engine.evaluation.crops import cut_crops
from facekit.engine.evaluation.evaluate import Measured
from facekit.labels.picture_labels import WIDER_ATTRIBUTES, PictureLabels
from facekit.metrics.calibration import expected_calibration_error, reliability
from facekit.metrics.curves import OperatingPoint, detection_curve
from facekit.metrics.landmarks import landmark_error
from facekit.metrics.matching import match_set
from facekit.metrics.mistakes import worst_mistakes
from facekit.metrics.size_ap import curve_by_height, curves_by_height
from facekit.metrics.voc import eleven_point_ap, voc_curve
from facekit.metrics.wider import THRESHOLDS, Curve, WiderGroundTruth
from facekit.metrics.wider_groups import wider_groups
from facekit.records.evaluation import CalibrationBin, Crop, CurvePoints, GroupRow, Metric, ThresholdRow

HEIGHTS = (10, 32, 64, 100)  # pixels of the annotation's picture
FALSE_POSITIVE_RATES = (0.01, 0.1, 1)  # a picture
SCORE_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
PERCENTILES = (50, 90, 99)
CURVE_POINTS = 200  # of 1000: more than a page can show
CROPS = 12  # of each kind
INVALID = WIDER_ATTRIBUTES.index("invalid")

Predictions = Mapping[str, NDArray[np.float64]]


class Details:
    """One measured set under all the lenses; what several of them need is computed once."""

    def __init__(self, measured: Measured) -> None:
        self.measured = measured
        self.boxes_xywh = [picture.boxes_xywh for picture in measured.pictures]
        self.is_crowd = [picture.is_crowd for picture in measured.pictures]
        self.is_ignored = [_is_ignored(picture) for picture in measured.pictures]
        self.found_xyxy = [faces.boxes_xyxy for faces in measured.found]
        self.scores = [faces.scores for faces in measured.found]
        # The protocol by height knows crowds alone: WIDER's invalid faces are ordinary ones in it.
        labels = (self.boxes_xywh, self.is_crowd, self.found_xyxy, self.scores)
        self.by_height = curves_by_height(*labels, HEIGHTS)
        # Of any size, anywhere: the frame of the protocol by height ends at pixel 1024.
        self.all_faces = curve_by_height(*labels, min_height=1, frame=math.inf)
        matches = match_set(self.boxes_xywh, self.is_ignored, self.found_xyxy, self.scores)
        self.voc = voc_curve(*labels)
        self.curve = detection_curve(matches)
        self.reliability = reliability(matches)

    def metrics(self) -> list[Metric]:
        """Rows `ap_50`, `ap_50_voc07`, `ap_h10`, `ap_h32`, `ap_64x64`, `ap_h100`, `recall_fp_RATE`, `ece`;
        `nme` and `landmark_faces` where both labels and detector have landmarks; `latency_pN`."""
        rows = [
            Metric("ap_50", "AP @ IoU=0.50 (VOC)", "%", 100 * self.voc.ap),
            Metric("ap_50_voc07", "AP @ IoU=0.50 (VOC 2007, 11 points)", "%", 100 * eleven_point_ap(self.voc)),
        ]
        rows += [
            # 64 pixels under the name and key by which the templates publish it.
            Metric("ap_64x64", "AP for faces > 64x64", "%", 100 * curve.ap)
            if height == 64
            else Metric(f"ap_h{height}", f"AP for faces > {height} px", "%", 100 * curve.ap)
            for height, curve in self.by_height.items()
        ]
        for rate in FALSE_POSITIVE_RATES:
            name = f"Recall at {rate:g} FP a picture"
            rows.append(Metric(f"recall_fp_{rate:g}", name, "%", 100 * self.all_faces.recall_at(rate)))
        rows.append(Metric("ece", "Calibration error (ECE)", "%", 100 * expected_calibration_error(self.reliability)))
        return rows + self._landmarks() + self._latency()

    def _landmarks(self) -> list[Metric]:
        pictures = self.measured.pictures
        points = [faces.landmarks_xy for faces in self.measured.found if faces.landmarks_xy is not None]
        labelled = any(np.isfinite(picture.landmarks_xy).any() for picture in pictures)
        if not labelled or len(points) < len(pictures):
            return []
        labels = [picture.landmarks_xy for picture in pictures]
        error = landmark_error(self.boxes_xywh, self.is_crowd, labels, self.found_xyxy, self.scores, points)
        return [
            Metric("nme", f"Landmark NME over sqrt(w h), {error.faces} faces", "%", error.nme_percent),
            Metric("landmark_faces", "Landmark faces found", "%", 100 * error.found),
        ]

    def _latency(self) -> list[Metric]:
        milliseconds = 1000 * np.asarray(self.measured.seconds)
        return [
            Metric(
                f"latency_p{percentile}",
                f"Latency p{percentile}",
                "ms",
                float(np.percentile(milliseconds, percentile)) if len(milliseconds) else math.nan,
            )
            for percentile in PERCENTILES
        ]

    def groups(self) -> list[GroupRow]:
        """AP by height; by event and attribute see wider_rows."""
        return [
            GroupRow("height", f"over {height} px", curve.faces, 100 * curve.ap)
            for height, curve in self.by_height.items()
        ]

    def thresholds(self, score_threshold: float) -> list[ThresholdRow]:
        """What users get who keep the faces over a score, at round ones and at that of the best F1.

        score_threshold: over which detections were asked for; nothing is known of those below it.
        """
        best = self.curve.best_f1(score_threshold)
        known = {best.score_threshold: best} if best else {}
        for score in (score_threshold, *(score for score in SCORE_THRESHOLDS if score > score_threshold)):
            known.setdefault(score, self.curve.at(score))
        return [_threshold_row(known[score], is_best=known[score] is best) for score in sorted(known)]

    def curve_points(self) -> CurvePoints:
        """Precision over recall of all faces, matched as for the thresholds."""
        recall, precision = self.curve.thinned(CURVE_POINTS)
        return CurvePoints("all faces, IoU 0.5", tuple(recall.tolist()), tuple(precision.tolist()), self.curve.ap)

    def calibration(self) -> list[CalibrationBin]:
        """Ten bins of scores."""
        return [CalibrationBin(*row) for row in self.reliability]

    def crops(self, score_threshold: float) -> list[Crop]:
        """The worst mistakes that are made at that threshold: misses, then false positives."""
        mistakes = worst_mistakes(
            self.boxes_xywh, self.is_ignored, self.found_xyxy, self.scores, CROPS, score_threshold=score_threshold
        )
        return [
            *cut_crops(self.measured, "miss", mistakes.misses),
            *cut_crops(self.measured, "false positive", mistakes.false_positives),
        ]


def _threshold_row(point: OperatingPoint, is_best: bool) -> ThresholdRow:
    precision, recall, f1 = (100 * share for share in (point.precision, point.recall, point.f1))
    return ThresholdRow(point.score_threshold, precision, recall, f1, point.false_positives_per_picture, is_best)


def _is_ignored(picture: PictureLabels) -> NDArray[np.bool_]:
    """Crowds, and faces that WIDER's annotators call invalid."""
    if picture.attributes is None:
        return picture.is_crowd
    is_invalid: NDArray[np.bool_] = picture.attributes[:, INVALID] == 1
    return picture.is_crowd | is_invalid


def wider_rows(predictions: Predictions, ground_truth: WiderGroundTruth) -> list[GroupRow]:
    """AP by event and attribute, by the official protocol."""
    return [GroupRow(row.group, row.name, row.faces, 100 * row.ap) for row in wider_groups(predictions, ground_truth)]


def wider_curve_points(curves: Mapping[str, Curve]) -> list[CurvePoints]:
    """Every fifth point of the official curves, enough to draw; none of a subset in which no face counts."""
    step = len(THRESHOLDS) // CURVE_POINTS
    return [
        CurvePoints(
            name, tuple(curve.recall[step - 1 :: step].tolist()), tuple(curve.precision[step - 1 :: step].tolist()),
            curve.ap,
        )
        for name, curve in curves.items() if curve.faces
    ]  # fmt: skip
