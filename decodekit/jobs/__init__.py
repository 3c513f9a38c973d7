"""Jobs: a file of rows through a model, so that nothing is lost and nothing is done twice."""
