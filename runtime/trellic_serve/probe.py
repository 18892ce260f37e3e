"""Query a probe of a service, for images without an HTTP client.

::

    python -m trellic_serve.probe live|ready|startup [PORT]
"""

from __future__ import annotations

import http.client
import sys

PORT = 8080


def main(arguments: list[str]) -> int:
    """Return 0 when the probe answers 200, else 1."""
    probe, port = (*arguments, *("ready", str(PORT))[len(arguments) :])
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=3)
    try:
        connection.request("GET", f"/health/{probe}")
        return int(connection.getresponse().status != 200)
    except OSError:
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
