"""Does a word of the prompt change the video? Needs no judge and no weights."""
