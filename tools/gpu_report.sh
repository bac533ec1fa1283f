#!/usr/bin/env bash
# All GPU tests and benchmarks in one command, in less than eight minutes, into one Markdown report:
#
#   tools/gpu_report.sh [REPORT.md] [MODEL_FOLDER]
#
# Every part has a limit; one that fails or runs past it is in the report as what it said, and the rest goes on.
set -uo pipefail
report=$(realpath -m "${1:-gpu-report.md}")
cd "$(dirname "$0")/.."
model=${2:-n}
python=${PYTHON:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0

part() { # TITLE LIMIT_S COMMAND...: the command's output as a block of the report
  local title=$1 limit=$2
  shift 2
  echo "$title ..." >&2
  local began=$SECONDS status=0
  timeout --kill-after=5 "$limit" "$@" >"$folder/out" 2>"$folder/err" || status=$?
  {
    printf '\n## %s\n\n' "$title"
    [ "$status" = 0 ] || printf 'Exit status %s%s.\n\n' "$status" "$([ "$status" = 124 ] && echo ": past its $limit s")"
    printf '```text\n'
    tail -n 120 "$folder/out"
    [ "$status" = 0 ] || tail -n 20 "$folder/err"
    printf '```\n\n%s s\n' "$((SECONDS - began))"
  } >>"$report"
  [ "$status" = 0 ] || failed=1
}

{
  echo "# GPU report"
  echo
  echo "$(date -u +%Y-%m-%d), $(git rev-parse --short HEAD 2>/dev/null || echo 'no commit'), model \`$model\`."
} >"$report"

part "Machine" 45 "$python" -m tools.main doctor --model "$model"
part "GPU" 10 nvidia-smi
part "Tests on the GPU" 150 "$python" -m pytest -m gpu tests/gpu -q -rs -p no:cacheprovider
# torch.compile takes most of it: two entries, each for one picture and for many.
part "Engines" 100 "$python" -m tools.main benchmark engine --model "$model" --backend tensorrt,torch --torch-compile \
  --seconds 15
part "Pipeline" 35 "$python" -m tools.main benchmark pipeline --model "$model" --seconds 5
# Without decoding, which would hide the engine: 0.9 of the engine alone is the aim. Pictures scaled here, then there.
memory=("$python" -m tools.main benchmark pipeline --model "$model" --predecoded 32 --streams 8 --seconds 4 --repeats 1)
part "Pipeline from memory" 35 "${memory[@]}"
part "Pipeline from memory, scaled on the GPU" 35 "${memory[@]}" --preprocess gpu

echo "Roofline ..." >&2
echo >>"$report"
if ! timeout --kill-after=5 65 "$python" -m tools.gpu_roofline "$model" >>"$report" 2>"$folder/err"; then
  { printf '## Roofline\n\n```text\n'; tail -n 20 "$folder/err"; printf '```\n'; } >>"$report"
  failed=1
fi
printf '\n%s s in all.\n' "$SECONDS" >>"$report"
echo "$report" >&2
exit "$failed"
