"""``python -m feedback.schema``: write the schemas' files anew."""

from feedback.schema import write

for path in write():
    print(path)
