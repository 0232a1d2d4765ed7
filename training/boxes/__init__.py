"""Lesion boxes made by machine, for those who have none (CARE, journal version of 2023).

    saliency.py   picture → saliency in [0, 1]
    generate.py   saliency → boxes; a folder of pictures → boxes.csv; how good they are

Which saliency methods the paper used is not public here: the choice and its settings are ours.
"""
