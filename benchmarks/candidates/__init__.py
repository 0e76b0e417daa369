"""A study that chooses one of many recipes by a race on MNIST's training images, without the test images."""
