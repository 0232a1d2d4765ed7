"""Pictures: file → display-ready pixels → model input, and Grad-CAM map → heatmap → overlay.

    errors.py         ImagingError and its kinds: the file is at fault
    image.py          Facts, MedicalImage and ImageFile: one still picture and its promises
    reading.py        open_image, read_image: look at the first bytes, call dicom or photo
    dicom.py          DICOM → ImageFile: gate on the header, decode, rescale, window, invert
    dicom_header.py   what may be decoded at all, and the facts about it
    terms.py          which words of a header are told
    dicomdir.py       which files a medium holds
    dicom_stored.py   stored values of one frame, native or decoded
    dicom_display.py  stored values → brightness, as a table
    dicom_lut.py      the look-up tables that a file brings along
    codestream.py     what compressed pixels say about themselves
    dicom_jpeg.py     classic JPEG inside DICOM
    photo.py          PNG, JPEG → ImageFile
    tiff.py           TIFF → ImageFile
    tiff_packed.py    whether its strips and tiles unpack to all of their pixels
    bmp.py            BMP → ImageFile
    still.py          what these have in common: limits, decoding, which way is up
    icc.py            ICC profiles: colors of other spaces → sRGB
    complaints.py     what decoders say of damage nowhere but on stderr
    isolation.py      DecoderPool: fragile kinds are decoded in processes of their own
    expendable.py     what such a process does first
    preprocessing.py  Preprocessing and Placement: picture → model input, and the way back
    gradcam.py        the Grad-CAM formula, one spelling for NumPy and PyTorch
    overlay.py        heatmap over picture
    png_encoder.py    a picture as PNG, quickly
    cores.py          how many pictures can be worked on at once

Home of pydicom and OpenCV. Imports nothing else of this project.
"""
