"""What the families of models share: fields, training by epochs, augmentation, and the saved model.

It imports many_seeds.errors and itself.
"""
