"""What the stages share: parameters, environments, paths and results of a study. Imports no stage."""
