#!/usr/bin/env bash
# Do what the Dockerfile does where there is no Docker: the same files into an empty folder, the same
# installation into a fresh environment, the same command; then see that the service gets ready.
#     scripts/mirror-dockerfile.sh [PORT]
set -euo pipefail
cd "$(dirname "$0")/.."
port=${1:-3456}
python=$(command -v python3)
app=$(mktemp -d)
service=
trap '[ -z "$service" ] || { kill "$service"; wait "$service"; } 2>/dev/null || true; rm -rf "$app"' EXIT

sed -n 's/^COPY \(.*\) [^ ]*$/\1/p' Dockerfile | xargs cp --recursive --target-directory "$app"
cd "$app"
"$python" -m venv .venv
export PATH="$app/.venv/bin:$PATH" EXTRA
EXTRA=$(sed -n 's/^ARG EXTRA=//p' "$OLDPWD/Dockerfile")
eval "$(sed -n 's/^RUN pip /pip --quiet /p' "$OLDPWD/Dockerfile")"
if pip list 2>/dev/null | grep -i '^torch'; then
    echo "PyTorch has no place here" >&2
    exit 1
fi

care serve --host 127.0.0.1 --port "$port" &
service=$!
for _ in $(seq 60); do
    if curl --silent --fail --output /dev/null "localhost:$port/readyz"; then
        echo "ready: $(curl --silent "localhost:$port/models" | head -c 200)"
        exit 0
    fi
    kill -0 "$service"  # it ended: so does this
    sleep 1
done
echo "not ready after a minute" >&2
exit 1
