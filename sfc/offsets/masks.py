"""Of which images to look at the masks next: a few that show every class as often as can be, chosen by labels alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence


def least_covered(labels: Sequence[Sequence[int]], count: int, taken: Collection[int] = ()) -> list[int]:
    """At most `count` more images, such that together with those that are taken they are even over the classes.

    Again and again the class that the fewest taken images show, of such the rarest, takes the earliest image that shows
    it and is not taken. What is next follows from what is taken alone, so a few at first and more later are the same
    images as all at once. Images without a class are never taken.

    Args:
        labels: class indices of each image, none twice.
        taken: indices of images that have been taken before.

    Returns:
        Indices of the new images, in the order in which they are taken.
    """
    showing: dict[int, list[int]] = {}
    for image, classes in enumerate(labels):
        for c in classes:
            showing.setdefault(c, []).append(image)
    covered = Counter(c for image in taken for c in labels[image])
    done, new = set(taken), []
    waiting = {c: (image for image in images if image not in done) for c, images in showing.items()}
    while waiting and len(new) < count:
        c = min(waiting, key=lambda c: (covered[c], len(showing[c]), c))
        image = next(waiting[c], None)
        if image is None:
            del waiting[c]
            continue
        done.add(image)
        new.append(image)
        covered.update(labels[image])
    return new
