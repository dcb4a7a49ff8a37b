"""Which background offset: the labels it gives, judged on a few masks or without any."""
