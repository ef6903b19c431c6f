# Sourced by run, train and infer: what machine this is, how a measurement is written down, and the Python of the peers.
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
here=$root/benchmarks
rounds=${LUMACHROME_ROUNDS:-3}
threads=${LUMACHROME_THREADS:-$(nproc)}
mkdir -p "$here/results"
out=$here/results/$(date +%Y-%m-%d).jsonl
export PYTHONDONTWRITEBYTECODE=1

ours() { "$root/lumachrome" "$@" --json; }

# A JSON object on stdin, on one line with the given members and the machine in front.
described() {
    local object
    object=$(cat)
    : "${machine:=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)}"
    : "${commit:=$(git -C "$root" describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)}"
    : "${compiler:=$(c++ -dumpfullversion 2>/dev/null || echo unknown)}"
    printf '{%s,"machine":"%s","cores":%s,"compiler":"%s","flags":"%s","commit":"%s",%s\n' \
        "$1" "$machine" "$(nproc)" "$compiler" "$(compile_flags)" "$commit" "${object#\{}"
}

# What the library is compiled with: flags that change the machine code.
compile_flags() {
    local commands=${LUMACHROME_BUILD:-$root/build}/compile_commands.json
    [ ! -f "$commands" ] || grep -m1 '"command"' "$commands" | grep -oE -- ' -(O|m|f|DNDEBUG|std=)[^ "]*' |
        grep -v diagnostics | tr -d '\n' | cut -c2-
}

# Keeps a measurement of this run. framework, stage; a JSON object on stdin.
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
record() { described "\"bench\":\"$bench\",\"framework\":\"$1\",\"stage\":\"$2\"" >>"$lines"; }

load() { echo "load $1: $(cut -d' ' -f1-3 /proc/loadavg)" >&2; }

# Sets `python` to one that can import the modules: LUMACHROME_PEER_PYTHON, else benchmarks/.venv, filled on the first call.
peer_python() {
    local imports
    imports="import $(IFS=,; echo "$*")"
    python=${LUMACHROME_PEER_PYTHON:-$here/.venv/bin/python}
    if [ -n "${LUMACHROME_PEER_PYTHON:-}" ] || "$python" -c "$imports" 2>/dev/null; then return; fi
    echo "benchmarks/$bench: installing benchmarks/requirements.txt into benchmarks/.venv (once)" >&2
    python3 -m venv "$here/.venv" || { echo "benchmarks/$bench: needs python3 with its venv module" >&2; exit 69; }
    "$python" -m pip install --quiet -r "$here/requirements.txt" ||
        { echo "benchmarks/$bench: could not install benchmarks/requirements.txt" >&2; exit 69; }
}
