"""Files that the processes of one machine share: private folders, locks, leases and claims."""
