#!/usr/bin/env bash
# The main job from end to end, without network or data: the bundled detector, small drawn pictures, and last a
# photograph.
# Usage: bash tools/demo.sh [FOLDER]   (default: demo/ in the project; the work dir stays there to look at)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash init_venv.sh
# shellcheck disable=SC1091
source venv/bin/activate

demo=$(mkdir -p "${1:-demo}" && cd "${1:-demo}" && pwd)
work_dir=$demo/work_dir
train=$demo/pictures/train
val=$demo/pictures/val
val_flags=(--test-ann-files "$val/annotations.json" --test-data-roots "$val")
train_flags=(
    --train-ann-files "$train/annotations.json" --train-data-roots "$train"
    --val-ann-files "$val/annotations.json" --val-data-roots "$val"
)
say() { printf '\n== %s\n' "$*"; }

say "1/7 Drawing pictures with exact boxes and landmarks"
python tools/draw_pictures.py "$train" --pictures 48 --seed 11 --size 640
python tools/draw_pictures.py "$val" --pictures 24 --seed 12 --size 640

say "2/7 Template yunet-n -> work dir $work_dir"
python tools/instantiate_template.py model_templates/face-detection/yunet-n/template.yaml "$work_dir" \
    --snapshot model_templates/face-detection/yunet-n/facekit.pth

say "3/7 Measuring the snapshot"
# Named: without weights eval.py takes the newest, which in a folder of an earlier run are the fine-tuned ones.
python "$work_dir/eval.py" --load-weights "$work_dir/snapshot.pth" "${val_flags[@]}" \
    --save-metrics-to "$demo/metrics/1 snapshot.yaml"

say "4/7 Fine-tuning one epoch"
rm -rf "$work_dir/outputs"
python "$work_dir/train.py" --load-weights "$work_dir/snapshot.pth" --epochs 1 "${train_flags[@]}" \
    --batch-size 8 --base-learning-rate 0.0005
python "$work_dir/eval.py" --load-weights "$work_dir/outputs/latest.pth" "${val_flags[@]}" \
    --save-metrics-to "$demo/metrics/2 fine-tuned.yaml"

say "5/7 Exporting to ONNX and OpenVINO"
python "$work_dir/export.py" --load-weights "$work_dir/outputs/latest.pth"
python "$work_dir/eval.py" --load-weights "$work_dir/export/model.bin" "${val_flags[@]}" \
    --save-metrics-to "$demo/metrics/3 OpenVINO FP32.yaml"

say "6/7 Compressing to INT8"
python "$work_dir/compress.py" --load-weights "$work_dir/outputs/latest.pth" "${train_flags[@]}" \
    --nncf-quantization --batch-size 8
python "$work_dir/eval.py" --load-weights "$work_dir/compressed/model.bin" "${val_flags[@]}" \
    --save-metrics-to "$demo/metrics/4 OpenVINO INT8.yaml"

say "7/7 Drawing what the INT8 detector finds, and the bundled one in a photograph"
python "$work_dir/visualize.py" --load-weights "$work_dir/compressed/model.bin" --images "$val/images" \
    --output "$demo/found"
facekit visualize --images data/demo/astronaut.jpg --output "$demo/astronaut.jpg"

say "Done"
python tools/metrics_table.py "$demo"/metrics/*.yaml
echo "Look at: $demo/astronaut.jpg (a photograph), $demo/found (drawn pictures), $work_dir (work dir)"
