"""How many photos give the same file: what is counted, and its table."""

import numpy as np

from benchmarks import standing


class Loses:
    """A codec whose ordinary files lose a level each time, and whose steady files do not."""

    def encode(self, pixels, *, quality, steady):
        return (pixels if steady else pixels + 1).tobytes()

    def decode(self, data):
        return np.frombuffer(data, np.uint8).reshape(4, 4, 3)


def test_files_are_compared_byte_by_byte():
    pixels = np.full((4, 4, 3), 100, np.uint8)
    rows = [standing.twice(Loses(), pixels, 60, steady=steady) for steady in (False, True)]
    assert [row["same"] for row in rows] == [False, True]
    assert rows[0]["bytes"] == [48, 48]
    assert rows[0]["psnr"][0] > rows[0]["psnr"][1]


def test_the_table_has_a_line_for_each_kind():
    rows = [
        {"set": "kodak", "photo": str(n), "quality": 60.0, "steady": steady}
        | {"same": steady and n > 0, "psnr": [30.0, 29.0], "seconds": [2.0, 1.0]}
        for n in range(3)
        for steady in (False, True)
    ]
    record = {"rows": rows, "machine": {"date": "2026-01-01", "commit": "a", "processor": "b"}}
    drawn = standing.markdown(record)
    assert "| kodak | 60 | ordinary | 0 of 3 | 1.000 dB | 2.0 | 1.0 |" in drawn
    assert "| kodak | 60 | `--steady` | 2 of 3 |" in drawn
