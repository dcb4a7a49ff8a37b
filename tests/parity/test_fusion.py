import numpy as np

from sfc.fusion import background_rule, normalise_scales


def test_fusion_of_scales_and_background_rule(golden):
    arrays = golden("cam_fusion")
    maps = [arrays[f"raw{i}"][None] for i in range(len(arrays["scales"]))]
    normalised = normalise_scales(maps, tuple(arrays["size"].tolist()))
    np.testing.assert_allclose(normalised[0], arrays["normalised"], rtol=1e-5, atol=1e-7)
    final = background_rule(normalised[0], fg_gain=2.0, bg_offset=0.4)
    np.testing.assert_allclose(final, arrays["final"], rtol=1e-5, atol=1e-7)
