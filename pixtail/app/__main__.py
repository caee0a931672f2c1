"""`python -m pixtail.app` is `pixtail`: how one of our processes starts another."""

from pixtail.app.cli import main

main()
