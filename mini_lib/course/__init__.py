"""What only teaching and running need: checks of exercises, widgets, execution, grading, the site, Colab."""
