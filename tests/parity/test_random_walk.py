import numpy as np
import torch

from sfc.walk.random_walk import random_walk


def test_random_walk(golden):
    arrays = golden("random_walk")
    settings = {"radius": int(arrays["radius"]), "beta": float(arrays["beta"]), "steps": int(arrays["steps"])}
    walked = random_walk(torch.tensor(arrays["cam"])[None], torch.tensor(arrays["edge"]), **settings)[0].numpy()
    # eight squarings of a float32 matrix leave the arrays themselves 1e-4 off the float64 result, which ours is not
    np.testing.assert_allclose(walked, arrays["result"], rtol=5e-4, atol=1e-5)
    np.testing.assert_array_equal(walked.argmax(axis=0), arrays["result"].argmax(axis=0))
