#!/bin/sh
# What the Dockerfile does, step by step; a test runs it without a builder.
#   install.sh WHEEL FOLDER       install the wheel with its extras into FOLDER
#   install.sh warm FOLDER        compile kernels and check the model, as the user that will serve
set -eu
case "$1" in
warm)
    exec "$2/bin/python" -m trellic_serve.warm
    ;;
*)
    "${PYTHON:-python3}" -m venv ${VENV_OPTIONS:-} "$2"
    # shellcheck disable=SC2086
    "$2/bin/python" -m pip install --no-cache-dir ${PIP_OPTIONS:-} "$1${EXTRAS-[cpu,serve]}"
    ;;
esac
