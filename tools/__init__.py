"""Tools that people run by hand around a study. They may import the stages and the library; nothing imports them."""
