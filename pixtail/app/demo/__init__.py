"""`pixtail demo`: private servers, sample pictures and the whole pipeline on one machine, and the check that it works."""
