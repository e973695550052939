"""What is asked: tasks, their prompts, and whether an answer is right."""
