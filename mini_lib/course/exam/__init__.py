"""What runs in the process of one submission: the desk where its code runs, and the examiner who tests its functions."""
