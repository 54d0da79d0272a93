"""Source ``imagefolder`` for kappacore: a folder of images, one subfolder a class."""
