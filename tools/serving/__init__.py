"""The models of a study in use: predict, the server, the registry, and pictures made like the data set's."""
