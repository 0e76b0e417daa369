"""Commands around a study, run by hand. They may import stages and many_seeds; these do not import them."""
