"""What happened: facts as types, their envelope and subjects, the log, blobs, clock and ids."""
