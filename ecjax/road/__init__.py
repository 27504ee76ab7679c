"""The whole road: settings, one hidden layer in rounds, layer after layer, several problems at once."""
