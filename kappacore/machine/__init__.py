"""Files that the processes of one machine share: private folders, and the kernel's locks."""
