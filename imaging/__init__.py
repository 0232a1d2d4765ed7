"""Pictures: file → display-ready pixels → model input, and Grad-CAM map → heatmap → overlay.

    errors.py         ImagingError and its kinds: the file is at fault
    image.py          Facts and MedicalImage: one still picture and its promises
    reading.py        open_image, read_image: look at the first bytes, call dicom or photo
    dicom.py          DICOM → MedicalImage
    photo.py          PNG, JPEG → MedicalImage
    preprocessing.py  Preprocessing and Placement: picture → model input, and the way back
    gradcam.py        the Grad-CAM formula, one spelling for NumPy and PyTorch
    overlay.py        heatmap over picture

Home of pydicom and OpenCV. Imports nothing else of this project.
"""
