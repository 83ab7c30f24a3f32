"""Hold every shipped study of designs against the answer beside it, the one by mapping search too.

    python bench/studies.py [NAME ...]      a line each: seconds, and whether every figure is within 0.1 %; exit code 1
                                            where one is not

Half a minute on one core. The suite holds all but design-domains (tests/test_examples.py).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.test_examples import STUDIES, test_a_study_answers_what_stands_beside_it


def main() -> int:
    """Check the studies named, or all."""
    wrong = 0
    for path in STUDIES:
        if sys.argv[1:] and path.stem not in sys.argv[1:]:
            continue
        start = time.perf_counter()
        try:
            test_a_study_answers_what_stands_beside_it(path)
            said = "as written"
        except (AssertionError, json.JSONDecodeError) as error:
            wrong, said = wrong + 1, f"differs: {str(error).splitlines()[0] if str(error) else error!r}"
        print(f"{path.stem:20} {time.perf_counter() - start:6.1f} s  {said}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
