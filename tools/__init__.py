"""Tools that people run by hand around a study: none of them is a stage, and no stage imports them.

They may import stages."""
