"""The naive loops against published vectors and sums done by hand."""

import numpy as np

from ebm_fast.verify import naive, naive_noise


def test_naive__philox_known_answers():
    """Random123's vectors for philox4x32-10."""
    assert naive_noise.philox((0, 0, 0, 0), (0, 0)) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    ones = 0xFFFFFFFF
    assert naive_noise.philox((ones,) * 4, (ones,) * 2) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)
    digits = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    assert naive_noise.philox(digits, (0xA4093822, 0x299F31D0)) == (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)


def test_naive__conv2d_by_hand():
    x = np.arange(1.0, 5.0).reshape(1, 4, 1, 1)
    w = np.array([1.0, 10.0, 100.0]).reshape(3, 1, 1, 1)
    b = np.zeros(1)
    assert naive.conv2d_forward(x, w, b, 1, "VALID").ravel().tolist() == [321, 432]
    assert naive.conv2d_forward(x, w, b, 1, "SAME").ravel().tolist() == [210, 321, 432, 43]
    assert naive.conv2d_forward(x, w, b, 2, "SAME").ravel().tolist() == [321, 43]  # the odd zero goes last
