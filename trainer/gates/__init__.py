"""What a trained adapter has to pass before anybody is served by it. One gate a file, each a pure function of figures.

An adapter that fails one is published all the same, with its figures, so that one can see why; nothing serves it.
"""
