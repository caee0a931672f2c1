"""`verify`: is the index right?"""
