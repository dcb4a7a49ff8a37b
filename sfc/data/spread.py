"""A few images that show every class, chosen by their labels alone."""

from __future__ import annotations

from collections.abc import Sequence


def spread_over_classes(labels: Sequence[Sequence[int]], count: int) -> list[int]:
    """At most `count` images, evenly over the classes, so that rare classes are seen.

    In turn every class, the rarest first, takes the earliest image that shows it and is not taken. Images without a
    class are never taken. Those of a smaller `count` are among those of a larger one.

    Args:
        labels: class indices of each image.

    Returns:
        Indices of images, ascending.
    """
    showing: dict[int, list[int]] = {}
    for image, classes in enumerate(labels):
        for c in classes:
            showing.setdefault(c, []).append(image)
    queues = [iter(showing[c]) for c in sorted(showing, key=lambda c: (len(showing[c]), c))]
    taken: set[int] = set()
    while queues and len(taken) < count:
        for queue in list(queues):
            image = next((image for image in queue if image not in taken), None)
            if image is None:
                queues.remove(queue)
            elif len(taken) < count:
                taken.add(image)
    return sorted(taken)
