"""Scores of runs from files of many kinds and from MLflow. Imports many_seeds.errors and itself."""
