# Sourced by the cases of libnvmm: installs it into an empty prefix of the case and points the tools there.
prefix=$PWD/prefix
BUILT=$(dirname "$(command -v tracectl)") "$ROOT/Scripts/install.sh" "$prefix" >/dev/null || exit 1
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig

# build SOURCE PROGRAM: as the README tells a client's author.
build() {
    # shellcheck disable=SC2046
    cc -std=c11 -O1 -Wall -Wextra -Werror "$1" $(pkg-config --cflags --libs nvmm) -pthread -o "$2"
}

# alone [NAME=VALUE...] PROGRAM: with nothing of Swift or of the checkout in its environment. Other signals than SIGKILL
# may be blocked, as the thread that started the case had them.
alone() { env -i LD_LIBRARY_PATH="$prefix/lib" NVMM_RUNTIME_DIR="$NVMM_RUNTIME_DIR" timeout -s KILL 60 env "$@"; }

# Machines of other cases, which run at the same time, have numbers of their own.
export NVMM_RUNTIME_DIR=$PWD/runtime
