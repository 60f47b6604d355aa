"""What each measure can see: graded faults planted in clips, and the response of every measure to their dose."""
