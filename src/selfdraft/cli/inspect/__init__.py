"""`selfdraft inspect`: what a model is and what its passes cost, in words and tables."""
