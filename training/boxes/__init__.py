"""Lesion boxes made by machine, for those who have none (CARE, journal version of 2023).

    saliency.py  picture → saliency, four methods
    lungs.py     chest film → lung fields
    find.py      saliency or probability → boxes
    generate.py  a folder of pictures → boxes.csv, by any of the methods
    unet.py      a small U-Net, and its way into ONNX
    fit.py       boxes or masks of some pictures → a segmenter for the others
    report.py    how far made boxes are from drawn ones
    sheet.py     a contact sheet to look them over
    pool.py      one function over all pictures, in several processes

Which saliency methods the paper used is not public here: the choice and its settings are ours.
"""
