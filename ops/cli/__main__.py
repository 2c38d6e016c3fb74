"""``python -m ops.cli`` is ``plaudit``."""

from ops.cli import main

main()
