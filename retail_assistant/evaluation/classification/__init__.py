"""Classifiers of texts: how likely each label is, how good that is, how good the labels are."""
